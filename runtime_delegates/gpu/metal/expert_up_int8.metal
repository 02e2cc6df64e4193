// Written by build_shaders.py from shaders/expert_up.comp; do not edit. Compile without fast math.
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
constant uint _486 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _489 = (THREADS * TOKENS);
constant uint _490 = (_489 * 2u);
constant uint _515 = (64u * TOKENS);
constant uint _551 = (64u * TOKENS);

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint score_stride;
};

constant bool _611 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _753 = (TOKENS == 1u);
constant uint _826 = (TOKENS * 2u);
constant bool _858 = (TOKENS >= 4u);
constant bool _859 = (_858 && true);
constant int _861 = _859 ? 2 : 4;
constant uint _862 = (uint(_861) + 0u);
constant bool _918 = (TOKENS >= 4u);
constant bool _919 = (_918 && true);
constant int _920 = _919 ? 2 : 4;
constant uint _921 = (uint(_920) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1066 = (TOKENS >= 4u);
constant bool _1067 = (_1066 && true);
constant int _1068 = _1067 ? 2 : 4;
constant uint _1069 = (uint(_1068) + 0u);
constant uint _1070 = (_1069 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1140 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1146 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1146, 1u, 1u);

kernel void expert_up_int8(constant Push& p [[buffer(0)]], const device Weights& _202 [[buffer(1)]], const device X& _985 [[buffer(2)]], device Y& _1122 [[buffer(3)]], const device Scores& _648 [[buffer(4)]], const device Step& _619 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_490];
    threadgroup float chunk_sums[_551];
    do
    {
        uint _609 = p.first_expert + gl_WorkGroupID.y;
        uint _1624;
        if (_611)
        {
            _1624 = 1u;
        }
        else
        {
            _1624 = _619.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1625 = 0u; _1625 < _1624; _1625 += TOKENS)
        {
            for (uint _1705 = 0u; _1705 < TOKENS; _1705++)
            {
                uint _651 = _1625 + _1705;
                if ((_651 < _1624) && (_648.scores[(_651 * p.score_stride) + _609] > 0.0))
                {
                    uint _673 = _651 / 32u;
                    mask[_673] |= (1u << (_651 % 32u));
                }
            }
        }
        uint _701 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _708 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _717 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_717 == 0u)
        {
            break;
        }
        uint _725 = gl_LocalInvocationID.x % 8u;
        uint _1188 = ((p.cols + 7u) / 8u) * 4u;
        uint _1166 = _701 + _1188;
        uint _1168 = _725 / 2u;
        uint _1626;
        if ((_725 & 1u) == 0u)
        {
            _1626 = ((device uint*)&_202.weights[_1166])[_1168] & 65535u;
        }
        else
        {
            _1626 = ((device uint*)&_202.weights[_1166])[_1168] >> uint(16);
        }
        uint _1197 = _1626 & 32767u;
        uint _1199 = _1197 << uint(13);
        float _1214 = (_1197 < 1024u) ? (as_type<float>(947912704u | _1199) - 6.103515625e-05) : as_type<float>(_1199 + ((_1197 < 31744u) ? 939524096u : 1879048192u));
        float _1627;
        if ((_1626 & 32768u) != 0u)
        {
            _1627 = -_1214;
        }
        else
        {
            _1627 = _1214;
        }
        uint _1139;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        for (uint _1628 = _717; _1628 != 0u; _1628 = _1139)
        {
            uint _744 = min(_1628, TOKENS);
            uint _1701;
            for (uint _1631 = 0u, _1702 = 0u; _1631 < TOKENS; _1702 = _1701, _1631++)
            {
                if (_753)
                {
                    mask.x = 0u;
                    _1701 = _1702;
                }
                else
                {
                    uint _1703;
                    if (mask.x != 0u)
                    {
                        uint _764 = mask.x;
                        uint _767 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1703 = uint(int(popcount((~_764) & (_767 - 1u))));
                    }
                    else
                    {
                        uint _1704;
                        if (mask.y != 0u)
                        {
                            uint _787 = mask.y;
                            uint _790 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1704 = uint(32 + int(popcount((~_787) & (_790 - 1u))));
                        }
                        else
                        {
                            _1704 = _1702;
                        }
                        _1703 = _1704;
                    }
                    _1701 = _1703;
                }
                token[_1631] = _1701;
                x_at[_1631] = _1701 * p.x_stride;
            }
            for (uint _1632 = 0u; _1632 < _826; )
            {
                acc[_1632] = 0.0;
                _1632++;
                continue;
            }
            uint _1633;
            _1633 = gl_LocalInvocationID.x;
            bool _848;
            for (;;)
            {
                _848 = _1633 < _1188;
                if (_848)
                {
                    bool _863 = 0u < _862;
                    bool _872;
                    if (_863)
                    {
                        _872 = _848;
                    }
                    else
                    {
                        _872 = _863;
                    }
                    if (_872)
                    {
                        uint4 _1620[1] = { _202.weights[_701 + _1633] };
                        spvArrayCopyFromStackToStack1(raw[0u], _1620);
                    }
                    bool _1754 = 1u < _862;
                    bool _1760;
                    if (_1754)
                    {
                        _1760 = (_1633 + THREADS) < _1188;
                    }
                    else
                    {
                        _1760 = _1754;
                    }
                    if (_1760)
                    {
                        uint4 _1767[1] = { _202.weights[_701 + (_1633 + THREADS)] };
                        spvArrayCopyFromStackToStack1(raw[1u], _1767);
                    }
                    bool _1777 = 2u < _862;
                    bool _1783;
                    if (_1777)
                    {
                        _1783 = (_1633 + (2u * THREADS)) < _1188;
                    }
                    else
                    {
                        _1783 = _1777;
                    }
                    if (_1783)
                    {
                        uint4 _1790[1] = { _202.weights[_701 + (_1633 + (2u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[2u], _1790);
                    }
                    bool _1800 = 3u < _862;
                    bool _1806;
                    if (_1800)
                    {
                        _1806 = (_1633 + (3u * THREADS)) < _1188;
                    }
                    else
                    {
                        _1806 = _1800;
                    }
                    if (_1806)
                    {
                        uint4 _1813[1] = { _202.weights[_701 + (_1633 + (3u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[3u], _1813);
                    }
                    for (uint _1660 = 0u; _1660 < 4u; _1660++)
                    {
                        uint _916 = _1633 + (_1660 * THREADS);
                        if ((_1660 >= _921) || (_916 >= _1188))
                        {
                            continue;
                        }
                        uint _1275 = raw[_1660][0].x ^ 2155905152u;
                        float _1298 = as_type<float>((_1275 & 255u) | 1258291200u) - 8388736.0;
                        float _1306 = as_type<float>(((_1275 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1314 = as_type<float>(((_1275 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1322 = as_type<float>((_1275 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1825 = raw[_1660][0].y ^ 2155905152u;
                        float _1829 = as_type<float>((_1825 & 255u) | 1258291200u) - 8388736.0;
                        float _1834 = as_type<float>(((_1825 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1839 = as_type<float>(((_1825 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1843 = as_type<float>((_1825 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1855 = raw[_1660][0].z ^ 2155905152u;
                        float _1859 = as_type<float>((_1855 & 255u) | 1258291200u) - 8388736.0;
                        float _1864 = as_type<float>(((_1855 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1869 = as_type<float>(((_1855 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1873 = as_type<float>((_1855 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1885 = raw[_1660][0].w ^ 2155905152u;
                        float _1889 = as_type<float>((_1885 & 255u) | 1258291200u) - 8388736.0;
                        float _1894 = as_type<float>(((_1885 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1899 = as_type<float>(((_1885 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1903 = as_type<float>((_1885 >> uint(24)) | 1258291200u) - 8388736.0;
                        for (uint _1664 = 0u; _1664 < TOKENS; _1664 += 4u)
                        {
                            if ((_1664 != 0u) && (_1664 >= _1628))
                            {
                                continue;
                            }
                            for (uint _1669 = _1664; _1669 < (_1664 + 4u); _1669++)
                            {
                                if (_1669 >= TOKENS)
                                {
                                    continue;
                                }
                                uint _1327 = (_916 >> uint(2)) * 2u;
                                uint _994 = x_at[_1669] + _1327;
                                uint _1918 = x_at[_1669] + (_1327 + 1u);
                                uint _1031 = _1669 * 2u;
                                acc[_1031] = spvFAdd(acc[_1031], fma(_1843, _985.x[_1918].w, fma(_1839, _985.x[_1918].z, fma(_1834, _985.x[_1918].y, fma(_1829, _985.x[_1918].x, fma(_1322, _985.x[_994].w, fma(_1314, _985.x[_994].z, fma(_1306, _985.x[_994].y, spvFMul(_1298, _985.x[_994].x)))))))));
                                uint _1997 = _1031 + 1u;
                                acc[_1997] += fma(_1903, _985.x[_1918].w, fma(_1899, _985.x[_1918].z, fma(_1894, _985.x[_1918].y, fma(_1889, _985.x[_1918].x, fma(_1873, _985.x[_994].w, fma(_1869, _985.x[_994].z, fma(_1864, _985.x[_994].y, _1859 * _985.x[_994].x)))))));
                            }
                        }
                    }
                    _1633 += _1070;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1634 = 0u; _1634 < _486; )
            {
                partial[(_1634 * THREADS) + gl_LocalInvocationID.x] = param[_1634];
                _1634++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1635 = gl_LocalInvocationID.x; _1635 < _515; _1635 += THREADS)
            {
                uint _1481 = (((_1635 / 32u) * THREADS) + ((_1635 / 8u) % 4u)) + (4u * (_1635 % 8u));
                float _1658;
                _1658 = partial[_1481];
                for (uint _1656 = 32u; _1656 < THREADS; )
                {
                    _1658 = spvFAdd(_1658, partial[_1481 + _1656]);
                    _1656 += 32u;
                    continue;
                }
                chunk_sums[_1635] = _1658;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1641;
            _1641 = 0u;
            uint _1709;
            for (uint _1636 = 0u; _1636 < TOKENS; _1641 = _1709, _1636++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1636)
                {
                    _1709 = token[_1636];
                }
                else
                {
                    _1709 = _1641;
                }
            }
            bool _1099 = gl_LocalInvocationID.x < (8u * _744);
            bool _1106;
            if (_1099)
            {
                _1106 = _708 < p.rows;
            }
            else
            {
                _1106 = _1099;
            }
            if (_1106)
            {
                uint _1522 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_725 % 2u)) * 4u) + _1168) * 8u;
                float _1118 = spvFMul((((((spvFAdd(chunk_sums[_1522], chunk_sums[_1522 + 1u]) + chunk_sums[_1522 + 2u]) + chunk_sums[_1522 + 3u]) + chunk_sums[_1522 + 4u]) + chunk_sums[_1522 + 5u]) + chunk_sums[_1522 + 6u]) + chunk_sums[_1522 + 7u], _1627);
                float _1550 = -abs(_1118);
                float _1642;
                do
                {
                    if (_1550 < (-87.0))
                    {
                        _1642 = 0.0;
                        break;
                    }
                    float _1579 = floor(fma(_1550, 1.44269502162933349609375, 0.5));
                    float _1585 = fma(_1579, 0.00021219444170128554105758666992188, fma(_1579, -0.693359375, _1550));
                    _1642 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1585, 0.00139819993637502193450927734375), _1585, 0.008333452045917510986328125), _1585, 0.0416657961905002593994140625), _1585, 0.1666666567325592041015625), _1585, 0.5), _1585), _1585, _1585), 1.0) * as_type<float>(uint(int(_1579) + 127) << uint(23));
                    break;
                } while(false);
                float _1643;
                if (_1118 < 0.0)
                {
                    _1643 = _1118 * _1642;
                }
                else
                {
                    _1643 = _1118;
                }
                _1122.y[(((_609 * 64u) + _1641) * p.y_stride) + _708] = _1643 / (1.0 + _1642);
            }
            _1139 = _1628 - _744;
            if (_1140 && (_1139 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

