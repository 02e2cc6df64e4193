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
constant uint _372 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _375 = (THREADS * TOKENS);
constant uint _376 = (_375 * 2u);
constant uint _401 = (64u * TOKENS);
constant uint _437 = (64u * TOKENS);
constant bool _489 = (TOKENS > 1u);

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
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _550 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _668 = (1u << TOKENS);
constant uint _669 = (_668 - 1u);
constant uint _682 = (64u * TOKENS);
constant bool _773 = (TOKENS == 1u);
constant int _774 = _773 ? 8 : 4;
constant uint _775 = (uint(_774) + 0u);
constant bool _793 = (TOKENS == 1u);
constant bool _847 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _899 = (TOKENS == 1u);
constant int _900 = _899 ? 8 : 4;
constant uint _901 = (uint(_900) + 0u);
constant bool _906 = (TOKENS != 1u);
constant bool _942 = (TOKENS != 1u);
constant bool _996 = (TOKENS == 1u);
constant bool _1092 = (TOKENS == 1u);
constant int _1093 = _1092 ? 8 : 4;
constant uint _1094 = (uint(_1093) + 0u);
constant uint _1119 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1189 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1189, 1u, 1u);

kernel void expert_down_int8(constant Push& p [[buffer(0)]], const device Weights& _113 [[buffer(1)]], const device X& _866 [[buffer(2)]], device Y& _1158 [[buffer(3)]], const device Route& _569 [[buffer(4)]], const device Step& _496 [[buffer(5)]], const device Residual& _1174 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_376];
    threadgroup float chunk_sums[_437];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_682];
    do
    {
        uint _488 = gl_WorkGroupID.y * TOKENS;
        bool _500;
        if (_489)
        {
            _500 = _488 >= _496.step_[0];
        }
        else
        {
            _500 = _489;
        }
        if (_500)
        {
            break;
        }
        uint _1202 = ((p.cols + 7u) / 8u) * 4u;
        uint _518 = THREADS / p.classes;
        uint _522 = gl_LocalInvocationID.x / _518;
        uint _526 = 64u / p.classes;
        uint _1210 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _542 = 16u + ((_1210 * p.classes) * 4u);
        float acc[16];
        for (uint _1615 = 0u; _1615 < _550; )
        {
            acc[_1615] = 0.0;
            _1615++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _569.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        float4 hidden[8][2];
        uint _1627;
        for (uint _1616 = 0u, _1628 = 1u; _1616 < _1202; _1628 = _1627, _1616 += _518)
        {
            _1627 = _1628;
            uint _1684;
            for (uint _1626 = 0u; _1626 < _1627; _1627 = _1684, _1626 += _526)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1630;
                _1630 = gl_LocalInvocationID.x;
                for (; _1630 < 64u; _1630 += THREADS)
                {
                    uint _620 = ((_1630 / _526) * _1210) + min((_1626 + (_1630 % _526)), (_1210 - 1u));
                    uint _624 = 16u + (_620 * 4u);
                    uint _630 = _569.route[_624] - p.first_expert;
                    bool _639 = _630 < p.experts;
                    slot_expert[_1630] = _639 ? _630 : 0u;
                    uint _1686;
                    if (_639)
                    {
                        _1686 = (_569.route[_624 + uint((_488 < 32u) ? 1 : 2)] >> (_488 & 31u)) & _669;
                    }
                    else
                    {
                        _1686 = 0u;
                    }
                    slot_mask[_1630] = _1686;
                    for (uint _1687 = 0u; _1687 < TOKENS; )
                    {
                        slot_weight[(_1630 * TOKENS) + _1687] = as_type<float>(_569.route[((_542 + (_620 * 64u)) + _488) + _1687]);
                        _1687++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1684 = _1627;
                for (uint _1631 = 0u; _1631 < p.classes; )
                {
                    _1684 = max(_1684, counts[_1631]);
                    _1631++;
                    continue;
                }
                uint _728 = _1616 + (gl_LocalInvocationID.x % _518);
                uint _732 = _522 * _526;
                uint _1636;
                if ((_728 < _1202) && (counts[_522] > _1626))
                {
                    _1636 = min((counts[_522] - _1626), _526);
                }
                else
                {
                    _1636 = 0u;
                }
                for (uint _1637 = 0u; _1637 < _1636; _1637 += _1094)
                {
                    for (uint _1640 = 0u; _1640 < 8u; _1640++)
                    {
                        if (_1640 >= _775)
                        {
                            continue;
                        }
                        uint _784 = _1637 + _1640;
                        uint _788 = _732 + min(_784, (_1636 - 1u));
                        bool _809;
                        if (!_793)
                        {
                            bool _801 = _784 < _1636;
                            bool _808;
                            if (_801)
                            {
                                _808 = slot_mask[_788] != 0u;
                            }
                            else
                            {
                                _808 = _801;
                            }
                            _809 = _808;
                        }
                        else
                        {
                            _809 = _793;
                        }
                        if (_809)
                        {
                            uint _824 = (p.first + (slot_expert[_788] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1606[1] = { _113.weights[_824 + _728] };
                            spvArrayCopyFromStackToStack1(raw[_1640], _1606);
                            pair[_1640] = ((device uint*)&_113.weights[_824 + _1202])[_728 & 3u];
                        }
                        if (_847)
                        {
                            uint _875 = ((p.first_expert + slot_expert[_788]) * 64u) * p.x_stride;
                            uint _1229 = (_728 >> uint(2)) * 2u;
                            hidden[_1640][0u] = _866.x[_875 + _1229];
                            hidden[_1640][1u] = _866.x[_875 + (_1229 + 1u)];
                        }
                    }
                    for (uint _1641 = 0u; _1641 < 8u; _1641++)
                    {
                        bool _902 = _1641 >= _901;
                        bool _915;
                        if (!_902)
                        {
                            bool _914;
                            if (_906)
                            {
                                _914 = (_1637 + _1641) >= _1636;
                            }
                            else
                            {
                                _914 = _906;
                            }
                            _915 = _914;
                        }
                        else
                        {
                            _915 = _902;
                        }
                        if (_915)
                        {
                            continue;
                        }
                        uint _927 = _732 + min((_1637 + _1641), (_1636 - 1u));
                        uint _1648;
                        if ((_1637 + _1641) < _1636)
                        {
                            _1648 = slot_mask[_927];
                        }
                        else
                        {
                            _1648 = 0u;
                        }
                        if (_942 && (_1648 == 0u))
                        {
                            continue;
                        }
                        uint _1262 = raw[_1641][0].x ^ 2155905152u;
                        float _1285 = as_type<float>((_1262 & 255u) | 1258291200u) - 8388736.0;
                        float _1293 = as_type<float>(((_1262 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1301 = as_type<float>(((_1262 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1309 = as_type<float>((_1262 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1890 = raw[_1641][0].y ^ 2155905152u;
                        float _1894 = as_type<float>((_1890 & 255u) | 1258291200u) - 8388736.0;
                        float _1899 = as_type<float>(((_1890 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1904 = as_type<float>(((_1890 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1908 = as_type<float>((_1890 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1920 = raw[_1641][0].z ^ 2155905152u;
                        float _1924 = as_type<float>((_1920 & 255u) | 1258291200u) - 8388736.0;
                        float _1929 = as_type<float>(((_1920 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1934 = as_type<float>(((_1920 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1938 = as_type<float>((_1920 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1950 = raw[_1641][0].w ^ 2155905152u;
                        float _1954 = as_type<float>((_1950 & 255u) | 1258291200u) - 8388736.0;
                        float _1959 = as_type<float>(((_1950 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1964 = as_type<float>(((_1950 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1968 = as_type<float>((_1950 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1314 = pair[_1641] & 65535u;
                        uint _1329 = _1314 & 32767u;
                        uint _1331 = _1329 << uint(13);
                        float _1346 = (_1329 < 1024u) ? (as_type<float>(947912704u | _1331) - 6.103515625e-05) : as_type<float>(_1331 + ((_1329 < 31744u) ? 939524096u : 1879048192u));
                        float _1652;
                        if ((_1314 & 32768u) != 0u)
                        {
                            _1652 = -_1346;
                        }
                        else
                        {
                            _1652 = _1346;
                        }
                        uint _1318 = pair[_1641] >> uint(16);
                        uint _1365 = _1318 & 32767u;
                        uint _1367 = _1365 << uint(13);
                        float _1382 = (_1365 < 1024u) ? (as_type<float>(947912704u | _1367) - 6.103515625e-05) : as_type<float>(_1367 + ((_1365 < 31744u) ? 939524096u : 1879048192u));
                        float _1653;
                        if ((_1318 & 32768u) != 0u)
                        {
                            _1653 = -_1382;
                        }
                        else
                        {
                            _1653 = _1382;
                        }
                        uint _977 = (((p.first_expert + slot_expert[_927]) * 64u) + _488) * p.x_stride;
                        for (uint _1654 = 0u; _1654 < TOKENS; _1654++)
                        {
                            float4 _1674;
                            if (_996)
                            {
                                _1674 = hidden[_1641][0u];
                            }
                            else
                            {
                                _1674 = _866.x[(_977 + (_1654 * p.x_stride)) + ((_728 >> uint(2)) * 2u)];
                            }
                            float4 _1993;
                            if (_996)
                            {
                                _1993 = hidden[_1641][1u];
                            }
                            else
                            {
                                _1993 = _866.x[(_977 + (_1654 * p.x_stride)) + (((_728 >> uint(2)) * 2u) + 1u)];
                            }
                            uint _1035 = (_927 * TOKENS) + _1654;
                            uint _1058 = _1654 * 2u;
                            bool _1072 = ((_1648 >> _1654) & 1u) != 0u;
                            float _1661;
                            if (_1072)
                            {
                                _1661 = fma(spvFMul(slot_weight[_1035], _1652), fma(_1908, _1993.w, fma(_1904, _1993.z, fma(_1899, _1993.y, fma(_1894, _1993.x, fma(_1309, _1674.w, fma(_1301, _1674.z, fma(_1293, _1674.y, spvFMul(_1285, _1674.x)))))))), acc[_1058]);
                            }
                            else
                            {
                                _1661 = acc[_1058];
                            }
                            acc[_1058] = _1661;
                            uint _2075 = _1058 + 1u;
                            float _2091;
                            if (_1072)
                            {
                                _2091 = fma(slot_weight[_1035] * _1653, fma(_1968, _1993.w, fma(_1964, _1993.z, fma(_1959, _1993.y, fma(_1954, _1993.x, fma(_1938, _1674.w, fma(_1934, _1674.z, fma(_1929, _1674.y, _1924 * _1674.x))))))), acc[_2075]);
                            }
                            else
                            {
                                _2091 = acc[_2075];
                            }
                            acc[_2075] = _2091;
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1617 = 0u; _1617 < _372; )
        {
            partial[(_1617 * THREADS) + gl_LocalInvocationID.x] = param[_1617];
            _1617++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1618 = gl_LocalInvocationID.x; _1618 < _401; _1618 += THREADS)
        {
            uint _1542 = (((_1618 / 32u) * THREADS) + ((_1618 / 8u) % 4u)) + (4u * (_1618 % 8u));
            float _1625;
            _1625 = partial[_1542];
            for (uint _1623 = 32u; _1623 < THREADS; )
            {
                _1625 = spvFAdd(_1625, partial[_1542 + _1623]);
                _1623 += 32u;
                continue;
            }
            chunk_sums[_1618] = _1625;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1112 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1117 = _488 + (gl_LocalInvocationID.x / 8u);
        bool _1120 = gl_LocalInvocationID.x >= _1119;
        bool _1129;
        if (!_1120)
        {
            _1129 = _1112 >= p.rows;
        }
        else
        {
            _1129 = _1120;
        }
        if (_1129)
        {
            break;
        }
        uint _1139 = (_1117 * p.y_stride) + _1112;
        uint _1144 = gl_LocalInvocationID.x % 8u;
        uint _1583 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1144 % 2u)) * 4u) + (_1144 / 2u)) * 8u;
        float _1859 = (((((spvFAdd(chunk_sums[_1583], chunk_sums[_1583 + 1u]) + chunk_sums[_1583 + 2u]) + chunk_sums[_1583 + 3u]) + chunk_sums[_1583 + 4u]) + chunk_sums[_1583 + 5u]) + chunk_sums[_1583 + 6u]) + chunk_sums[_1583 + 7u];
        float _1621;
        if ((p.flags & 1u) != 0u)
        {
            _1621 = spvFAdd(_1859, _1158.y[_1139]);
        }
        else
        {
            _1621 = _1859;
        }
        float _1622;
        if ((p.flags & 2u) != 0u)
        {
            _1622 = spvFAdd(_1621, _1174.residual[(_1117 * p.residual_stride) + _1112]);
        }
        else
        {
            _1622 = _1621;
        }
        _1158.y[_1139] = _1622;
        break;
    } while(false);
}

