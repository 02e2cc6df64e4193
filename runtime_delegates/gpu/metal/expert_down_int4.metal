// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _400 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _403 = (THREADS * TOKENS);
constant uint _404 = (_403 * 2u);
constant uint _420 = (THREADS / 2u);
constant uint _441 = (TOKENS * 2u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint max_tokens;
    uint slots;
    uint classes;
    uint accumulate;
};

struct Route
{
    uint route[1];
};

constant uint _544 = (TOKENS * 2u);
constant bool _602 = (TOKENS == 1u);
constant uint _618 = (1u << TOKENS);
constant uint _619 = (_618 - 1u);
constant bool _624 = (TOKENS >= 4u);
constant bool _626 = (_624 && true);
constant int _627 = _626 ? 2 : 4;
constant uint _628 = (uint(_627) + 0u);
constant bool _678 = (TOKENS >= 4u);
constant bool _679 = (_678 && true);
constant int _680 = _679 ? 2 : 4;
constant uint _681 = (uint(_680) + 0u);
constant bool _720 = (TOKENS >= 4u);
constant bool _721 = (_720 && true);
constant int _722 = _721 ? 2 : 4;
constant uint _723 = (uint(_722) + 0u);
constant bool _745 = (TOKENS != 1u);

struct X
{
    float4 x[1];
};

constant bool _917 = (TOKENS >= 4u);
constant bool _918 = (_917 && true);
constant int _919 = _918 ? 2 : 4;
constant uint _920 = (uint(_919) + 0u);
constant uint _942 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1000 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1000, 1u, 1u);

kernel void expert_down_int4(constant Push& p [[buffer(0)]], const device Weights& _97 [[buffer(1)]], const device X& _857 [[buffer(2)]], device Y& _990 [[buffer(3)]], const device Route& _513 [[buffer(4)]], const device Step& _481 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_404];
    do
    {
        uint _476 = gl_WorkGroupID.y * TOKENS;
        uint _483 = _481.step_[0];
        if (_476 >= _483)
        {
            break;
        }
        uint _1012 = ((p.cols + 31u) / 32u) * 8u;
        uint _504 = THREADS / p.classes;
        uint _508 = gl_LocalInvocationID.x / _504;
        uint _515 = 4u + _508;
        uint _521 = _508 + 5u;
        uint _536 = (16u + (p.slots * 4u)) + (p.slots * 64u);
        float acc[16];
        for (uint _1477 = 0u; _1477 < _544; )
        {
            acc[_1477] = 0.0;
            _1477++;
            continue;
        }
        uint _555 = gl_LocalInvocationID.x % _504;
        uint bits[4];
        uint tile[4];
        uint4 raw[4][1];
        for (uint _1478 = _555; _1478 < _1012; _1478 += _504)
        {
            for (uint _1485 = _513.route[_515]; _1485 < _513.route[_521]; _1485 += _920)
            {
                uint _587 = _513.route[_521] - 1u;
                uint _590 = 16u + (min(_1485, _587) * 4u);
                uint _597 = _513.route[_590] - p.first_expert;
                uint _1538;
                if (_602)
                {
                    _1538 = 1u;
                }
                else
                {
                    _1538 = (_513.route[_590 + uint((_476 < 32u) ? 2 : 3)] >> (_476 & 31u)) & _619;
                }
                bits[0u] = _1538;
                bool _629 = 0u >= _628;
                bool _638;
                if (!_629)
                {
                    _638 = _1485 >= _513.route[_521];
                }
                else
                {
                    _638 = _629;
                }
                bool _646;
                if (!_638)
                {
                    _646 = _597 >= p.experts;
                }
                else
                {
                    _646 = _638;
                }
                if (_646)
                {
                    bits[0u] = 0u;
                }
                uint _664 = gl_WorkGroupID.x * p.tile_vectors;
                tile[0u] = (p.first + (_597 * p.expert_vectors)) + _664;
                uint _1592 = _1485 + 1u;
                uint _1596 = 16u + (min(_1592, _587) * 4u);
                uint _1601 = _513.route[_1596] - p.first_expert;
                uint _1614;
                if (_602)
                {
                    _1614 = 1u;
                }
                else
                {
                    _1614 = (_513.route[_1596 + uint((_476 < 32u) ? 2 : 3)] >> (_476 & 31u)) & _619;
                }
                bits[1u] = _1614;
                bool _1616 = 1u >= _628;
                bool _1622;
                if (!_1616)
                {
                    _1622 = _1592 >= _513.route[_521];
                }
                else
                {
                    _1622 = _1616;
                }
                bool _1629;
                if (!_1622)
                {
                    _1629 = _1601 >= p.experts;
                }
                else
                {
                    _1629 = _1622;
                }
                if (_1629)
                {
                    bits[1u] = 0u;
                }
                tile[1u] = (p.first + (_1601 * p.expert_vectors)) + _664;
                uint _1653 = _1485 + 2u;
                uint _1657 = 16u + (min(_1653, _587) * 4u);
                uint _1662 = _513.route[_1657] - p.first_expert;
                uint _1675;
                if (_602)
                {
                    _1675 = 1u;
                }
                else
                {
                    _1675 = (_513.route[_1657 + uint((_476 < 32u) ? 2 : 3)] >> (_476 & 31u)) & _619;
                }
                bits[2u] = _1675;
                bool _1677 = 2u >= _628;
                bool _1683;
                if (!_1677)
                {
                    _1683 = _1653 >= _513.route[_521];
                }
                else
                {
                    _1683 = _1677;
                }
                bool _1690;
                if (!_1683)
                {
                    _1690 = _1662 >= p.experts;
                }
                else
                {
                    _1690 = _1683;
                }
                if (_1690)
                {
                    bits[2u] = 0u;
                }
                tile[2u] = (p.first + (_1662 * p.expert_vectors)) + _664;
                uint _1714 = _1485 + 3u;
                uint _1718 = 16u + (min(_1714, _587) * 4u);
                uint _1723 = _513.route[_1718] - p.first_expert;
                uint _1736;
                if (_602)
                {
                    _1736 = 1u;
                }
                else
                {
                    _1736 = (_513.route[_1718 + uint((_476 < 32u) ? 2 : 3)] >> (_476 & 31u)) & _619;
                }
                bits[3u] = _1736;
                bool _1738 = 3u >= _628;
                bool _1744;
                if (!_1738)
                {
                    _1744 = _1714 >= _513.route[_521];
                }
                else
                {
                    _1744 = _1738;
                }
                bool _1751;
                if (!_1744)
                {
                    _1751 = _1723 >= p.experts;
                }
                else
                {
                    _1751 = _1744;
                }
                if (_1751)
                {
                    bits[3u] = 0u;
                }
                tile[3u] = (p.first + (_1723 * p.expert_vectors)) + _664;
                bool _682 = 0u < _681;
                bool _689;
                if (_682)
                {
                    _689 = bits[0u] != 0u;
                }
                else
                {
                    _689 = _682;
                }
                if (_689)
                {
                    uint4 _1467[1] = { _97.weights[tile[0u] + _1478] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1467);
                }
                bool _1775 = 1u < _681;
                bool _1781;
                if (_1775)
                {
                    _1781 = bits[1u] != 0u;
                }
                else
                {
                    _1781 = _1775;
                }
                if (_1781)
                {
                    uint4 _1788[1] = { _97.weights[tile[1u] + _1478] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1788);
                }
                bool _1798 = 2u < _681;
                bool _1804;
                if (_1798)
                {
                    _1804 = bits[2u] != 0u;
                }
                else
                {
                    _1804 = _1798;
                }
                if (_1804)
                {
                    uint4 _1811[1] = { _97.weights[tile[2u] + _1478] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1811);
                }
                bool _1821 = 3u < _681;
                bool _1827;
                if (_1821)
                {
                    _1827 = bits[3u] != 0u;
                }
                else
                {
                    _1827 = _1821;
                }
                if (_1827)
                {
                    uint4 _1834[1] = { _97.weights[tile[3u] + _1478] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1834);
                }
                for (uint _1489 = 0u; _1489 < 4u; _1489++)
                {
                    bool _724 = _1489 >= _723;
                    bool _732;
                    if (!_724)
                    {
                        _732 = bits[_1489] == 0u;
                    }
                    else
                    {
                        _732 = _724;
                    }
                    if (_732)
                    {
                        continue;
                    }
                    uint _739 = _1485 + _1489;
                    uint _742 = _739 * 4u;
                    uint _1517;
                    if (_745)
                    {
                        uint _750 = _742 + 18u;
                        int _1495;
                        if (_476 < 32u)
                        {
                            _1495 = int(popcount(_513.route[_750] & ((1u << _476) - 1u)));
                        }
                        else
                        {
                            _1495 = int(popcount(_513.route[_750])) + int(popcount(_513.route[_742 + 19u] & ((1u << (_476 & 31u)) - 1u)));
                        }
                        _1517 = uint(_1495);
                    }
                    else
                    {
                        _1517 = 0u;
                    }
                    float _1102 = as_type<float>((raw[_1489][0].x & 15u) | 1258291200u) - 8388616.0;
                    float _1110 = as_type<float>(((raw[_1489][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1118 = as_type<float>(((raw[_1489][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1126 = as_type<float>(((raw[_1489][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1058 = raw[_1489][0].x >> uint(4);
                    float _1160 = as_type<float>((_1058 & 15u) | 1258291200u) - 8388616.0;
                    float _1168 = as_type<float>(((_1058 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1176 = as_type<float>(((_1058 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1184 = as_type<float>(((_1058 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1853 = as_type<float>((raw[_1489][0].y & 15u) | 1258291200u) - 8388616.0;
                    float _1858 = as_type<float>(((raw[_1489][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1863 = as_type<float>(((raw[_1489][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1868 = as_type<float>(((raw[_1489][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1878 = raw[_1489][0].y >> uint(4);
                    float _1882 = as_type<float>((_1878 & 15u) | 1258291200u) - 8388616.0;
                    float _1887 = as_type<float>(((_1878 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1892 = as_type<float>(((_1878 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1897 = as_type<float>(((_1878 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1920 = as_type<float>((raw[_1489][0].z & 15u) | 1258291200u) - 8388616.0;
                    float _1925 = as_type<float>(((raw[_1489][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1930 = as_type<float>(((raw[_1489][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1935 = as_type<float>(((raw[_1489][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1945 = raw[_1489][0].z >> uint(4);
                    float _1949 = as_type<float>((_1945 & 15u) | 1258291200u) - 8388616.0;
                    float _1954 = as_type<float>(((_1945 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1959 = as_type<float>(((_1945 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1964 = as_type<float>(((_1945 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1982 = as_type<float>((raw[_1489][0].w & 15u) | 1258291200u) - 8388616.0;
                    float _1987 = as_type<float>(((raw[_1489][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1992 = as_type<float>(((raw[_1489][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1997 = as_type<float>(((raw[_1489][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _2007 = raw[_1489][0].w >> uint(4);
                    float _2011 = as_type<float>((_2007 & 15u) | 1258291200u) - 8388616.0;
                    float _2016 = as_type<float>(((_2007 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _2021 = as_type<float>(((_2007 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _2026 = as_type<float>(((_2007 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1193 = _1478 >> uint(3);
                    uint _1194 = (tile[_1489] + _1012) + _1193;
                    uint _1196 = _1478 & 3u;
                    uint _1200 = ((device uint*)&_97.weights[_1194])[_1196] & 65535u;
                    uint _1215 = _1200 & 32767u;
                    uint _1217 = _1215 << uint(13);
                    float _1232 = (_1215 < 1024u) ? (as_type<float>(947912704u | _1217) - 6.103515625e-05) : as_type<float>(_1217 + ((_1215 < 31744u) ? 939524096u : 1879048192u));
                    float _1507;
                    if ((_1200 & 32768u) != 0u)
                    {
                        _1507 = -_1232;
                    }
                    else
                    {
                        _1507 = _1232;
                    }
                    uint _1204 = ((device uint*)&_97.weights[_1194])[_1196] >> uint(16);
                    uint _1251 = _1204 & 32767u;
                    uint _1253 = _1251 << uint(13);
                    float _1268 = (_1251 < 1024u) ? (as_type<float>(947912704u | _1253) - 6.103515625e-05) : as_type<float>(_1253 + ((_1251 < 31744u) ? 939524096u : 1879048192u));
                    float _1508;
                    if ((_1204 & 32768u) != 0u)
                    {
                        _1508 = -_1268;
                    }
                    else
                    {
                        _1508 = _1268;
                    }
                    uint _1576;
                    for (uint _1509 = 0u, _1513 = _1517; _1509 < TOKENS; _1513 = _1576, _1509++)
                    {
                        if (((bits[_1489] >> _1509) & 1u) == 0u)
                        {
                            _1576 = _1513;
                            continue;
                        }
                        float _830 = as_type<float>(_513.route[(_536 + (_739 * 64u)) + _1513]);
                        uint _843 = ((_739 * p.max_tokens) + _1513) * p.x_stride;
                        uint _1288 = (_1193 * 8u) + (((_1478 >> uint(2)) & 1u) * 2u);
                        uint _864 = _843 + _1288;
                        uint _2050 = _843 + (_1288 + 1u);
                        uint _2072 = _843 + (_1288 + 4u);
                        uint _2094 = _843 + (_1288 + 5u);
                        uint _899 = _1509 * 2u;
                        acc[_899] = fma(spvFMul(_830, _1507), fma(_1897, _857.x[_2094].w, fma(_1892, _857.x[_2094].z, fma(_1887, _857.x[_2094].y, fma(_1882, _857.x[_2094].x, fma(_1184, _857.x[_2072].w, fma(_1176, _857.x[_2072].z, fma(_1168, _857.x[_2072].y, fma(_1160, _857.x[_2072].x, fma(_1868, _857.x[_2050].w, fma(_1863, _857.x[_2050].z, fma(_1858, _857.x[_2050].y, fma(_1853, _857.x[_2050].x, fma(_1126, _857.x[_864].w, fma(_1118, _857.x[_864].z, fma(_1110, _857.x[_864].y, spvFMul(_1102, _857.x[_864].x)))))))))))))))), acc[_899]);
                        uint _2318 = _899 + 1u;
                        acc[_2318] = fma(_830 * _1508, fma(_2026, _857.x[_2094].w, fma(_2021, _857.x[_2094].z, fma(_2016, _857.x[_2094].y, fma(_2011, _857.x[_2094].x, fma(_1964, _857.x[_2072].w, fma(_1959, _857.x[_2072].z, fma(_1954, _857.x[_2072].y, fma(_1949, _857.x[_2072].x, fma(_1997, _857.x[_2050].w, fma(_1992, _857.x[_2050].z, fma(_1987, _857.x[_2050].y, fma(_1982, _857.x[_2050].x, fma(_1935, _857.x[_864].w, fma(_1930, _857.x[_864].z, fma(_1925, _857.x[_864].y, _1920 * _857.x[_864].x))))))))))))))), acc[_2318]);
                        _1576 = _1513 + uint(1);
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1479 = 0u; _1479 < _400; )
        {
            partial[(_1479 * THREADS) + gl_LocalInvocationID.x] = param[_1479];
            _1479++;
            continue;
        }
        uint _1480;
        _1480 = _420;
        for (; _1480 >= 4u; _1480 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1480)
            {
                for (uint _1482 = 0u; _1482 < _441; )
                {
                    uint _1438 = (_1482 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1438] = spvFAdd(partial[_1438], partial[_1438 + _1480]);
                    _1482++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _934 = gl_LocalInvocationID.x % 8u;
        uint _935 = (gl_WorkGroupID.x * 8u) + _934;
        uint _939 = gl_LocalInvocationID.x / 8u;
        uint _940 = _476 + _939;
        bool _943 = gl_LocalInvocationID.x >= _942;
        bool _952;
        if (!_943)
        {
            _952 = _935 >= p.rows;
        }
        else
        {
            _952 = _943;
        }
        if (_952 || (_940 >= _483))
        {
            break;
        }
        uint _966 = (_940 * p.y_stride) + _935;
        uint _978 = (((_939 * 2u) + (gl_LocalInvocationID.x % 2u)) * THREADS) + (_934 / 2u);
        float _1481;
        if (p.accumulate != 0u)
        {
            _1481 = spvFAdd(partial[_978], _990.y[_966]);
        }
        else
        {
            _1481 = partial[_978];
        }
        _990.y[_966] = _1481;
        break;
    } while(false);
}

