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
constant uint _470 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _473 = (THREADS * TOKENS);
constant uint _474 = (_473 * 2u);
constant uint _499 = (64u * TOKENS);
constant uint _535 = (64u * TOKENS);

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

constant bool _595 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _737 = (TOKENS == 1u);
constant uint _810 = (TOKENS * 2u);
constant bool _842 = (TOKENS >= 4u);
constant bool _844 = (_842 && true);
constant int _846 = _844 ? 2 : 4;
constant uint _847 = (uint(_846) + 0u);
constant bool _903 = (TOKENS >= 4u);
constant bool _904 = (_903 && true);
constant int _905 = _904 ? 2 : 4;
constant uint _906 = (uint(_905) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1026 = (TOKENS >= 4u);
constant bool _1027 = (_1026 && true);
constant int _1028 = _1027 ? 2 : 4;
constant uint _1029 = (uint(_1028) + 0u);
constant uint _1030 = (_1029 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1100 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1106 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1106, 1u, 1u);

kernel void expert_up_int8(constant Push& p [[buffer(0)]], const device Weights& _196 [[buffer(1)]], const device X& _969 [[buffer(2)]], device Y& _1082 [[buffer(3)]], const device Scores& _632 [[buffer(4)]], const device Step& _603 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_474];
    threadgroup float chunk_sums[_535];
    do
    {
        uint _593 = p.first_expert + gl_WorkGroupID.y;
        uint _1576;
        if (_595)
        {
            _1576 = 1u;
        }
        else
        {
            _1576 = _603.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1577 = 0u; _1577 < _1576; _1577 += TOKENS)
        {
            for (uint _1654 = 0u; _1654 < TOKENS; _1654++)
            {
                uint _635 = _1577 + _1654;
                if ((_635 < _1576) && (_632.scores[(_635 * p.score_stride) + _593] > 0.0))
                {
                    uint _657 = _635 / 32u;
                    mask[_657] |= (1u << (_635 % 32u));
                }
            }
        }
        uint _685 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _692 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _701 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_701 == 0u)
        {
            break;
        }
        uint _709 = gl_LocalInvocationID.x % 8u;
        uint _1149 = ((p.cols + 7u) / 8u) * 4u;
        uint _1127 = _685 + _1149;
        uint _1129 = _709 / 2u;
        uint _1578;
        if ((_709 & 1u) == 0u)
        {
            _1578 = ((device uint*)&_196.weights[_1127])[_1129] & 65535u;
        }
        else
        {
            _1578 = ((device uint*)&_196.weights[_1127])[_1129] >> uint(16);
        }
        uint _1158 = _1578 & 32767u;
        uint _1160 = _1158 << uint(13);
        float _1175 = (_1158 < 1024u) ? (as_type<float>(947912704u | _1160) - 6.103515625e-05) : as_type<float>(_1160 + ((_1158 < 31744u) ? 939524096u : 1879048192u));
        float _1579;
        if ((_1578 & 32768u) != 0u)
        {
            _1579 = -_1175;
        }
        else
        {
            _1579 = _1175;
        }
        uint _1099;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        for (uint _1580 = _701; _1580 != 0u; _1580 = _1099)
        {
            uint _728 = min(_1580, TOKENS);
            uint _1650;
            for (uint _1583 = 0u, _1651 = 0u; _1583 < TOKENS; _1651 = _1650, _1583++)
            {
                if (_737)
                {
                    mask.x = 0u;
                    _1650 = _1651;
                }
                else
                {
                    uint _1652;
                    if (mask.x != 0u)
                    {
                        uint _748 = mask.x;
                        uint _751 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1652 = uint(int(popcount((~_748) & (_751 - 1u))));
                    }
                    else
                    {
                        uint _1653;
                        if (mask.y != 0u)
                        {
                            uint _771 = mask.y;
                            uint _774 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1653 = uint(32 + int(popcount((~_771) & (_774 - 1u))));
                        }
                        else
                        {
                            _1653 = _1651;
                        }
                        _1652 = _1653;
                    }
                    _1650 = _1652;
                }
                token[_1583] = _1650;
                x_at[_1583] = _1650 * p.x_stride;
            }
            for (uint _1584 = 0u; _1584 < _810; )
            {
                acc[_1584] = 0.0;
                _1584++;
                continue;
            }
            uint _1585;
            _1585 = gl_LocalInvocationID.x;
            bool _832;
            for (;;)
            {
                _832 = _1585 < _1149;
                if (_832)
                {
                    bool _848 = 0u < _847;
                    bool _857;
                    if (_848)
                    {
                        _857 = _832;
                    }
                    else
                    {
                        _857 = _848;
                    }
                    if (_857)
                    {
                        uint4 _1572[1] = { _196.weights[_685 + _1585] };
                        spvArrayCopyFromStackToStack1(raw[0u], _1572);
                    }
                    bool _1699 = 1u < _847;
                    bool _1705;
                    if (_1699)
                    {
                        _1705 = (_1585 + THREADS) < _1149;
                    }
                    else
                    {
                        _1705 = _1699;
                    }
                    if (_1705)
                    {
                        uint4 _1712[1] = { _196.weights[_685 + (_1585 + THREADS)] };
                        spvArrayCopyFromStackToStack1(raw[1u], _1712);
                    }
                    bool _1722 = 2u < _847;
                    bool _1728;
                    if (_1722)
                    {
                        _1728 = (_1585 + (2u * THREADS)) < _1149;
                    }
                    else
                    {
                        _1728 = _1722;
                    }
                    if (_1728)
                    {
                        uint4 _1735[1] = { _196.weights[_685 + (_1585 + (2u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[2u], _1735);
                    }
                    bool _1745 = 3u < _847;
                    bool _1751;
                    if (_1745)
                    {
                        _1751 = (_1585 + (3u * THREADS)) < _1149;
                    }
                    else
                    {
                        _1751 = _1745;
                    }
                    if (_1751)
                    {
                        uint4 _1758[1] = { _196.weights[_685 + (_1585 + (3u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[3u], _1758);
                    }
                    for (uint _1612 = 0u; _1612 < 4u; _1612++)
                    {
                        uint _901 = _1585 + (_1612 * THREADS);
                        if ((_1612 >= _906) || (_901 >= _1149))
                        {
                            continue;
                        }
                        uint _1236 = raw[_1612][0].x ^ 2155905152u;
                        float _1259 = as_type<float>((_1236 & 255u) | 1258291200u) - 8388736.0;
                        float _1267 = as_type<float>(((_1236 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1275 = as_type<float>(((_1236 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1283 = as_type<float>((_1236 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1770 = raw[_1612][0].y ^ 2155905152u;
                        float _1774 = as_type<float>((_1770 & 255u) | 1258291200u) - 8388736.0;
                        float _1779 = as_type<float>(((_1770 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1784 = as_type<float>(((_1770 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1788 = as_type<float>((_1770 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1800 = raw[_1612][0].z ^ 2155905152u;
                        float _1804 = as_type<float>((_1800 & 255u) | 1258291200u) - 8388736.0;
                        float _1809 = as_type<float>(((_1800 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1814 = as_type<float>(((_1800 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1818 = as_type<float>((_1800 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1830 = raw[_1612][0].w ^ 2155905152u;
                        float _1834 = as_type<float>((_1830 & 255u) | 1258291200u) - 8388736.0;
                        float _1839 = as_type<float>(((_1830 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1844 = as_type<float>(((_1830 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1848 = as_type<float>((_1830 >> uint(24)) | 1258291200u) - 8388736.0;
                        for (uint _1616 = 0u; _1616 < TOKENS; _1616 += 4u)
                        {
                            if ((_1616 != 0u) && (_1616 >= _1580))
                            {
                                continue;
                            }
                            for (uint _1621 = _1616; _1621 < (_1616 + 4u); _1621++)
                            {
                                if (_1621 >= TOKENS)
                                {
                                    continue;
                                }
                                uint _1288 = (_901 >> uint(2)) * 2u;
                                uint _978 = x_at[_1621] + _1288;
                                uint _1863 = x_at[_1621] + (_1288 + 1u);
                                uint _1003 = _1621 * 2u;
                                acc[_1003] = spvFAdd(acc[_1003], fma(_1788, _969.x[_1863].w, fma(_1784, _969.x[_1863].z, fma(_1779, _969.x[_1863].y, fma(_1774, _969.x[_1863].x, fma(_1283, _969.x[_978].w, fma(_1275, _969.x[_978].z, fma(_1267, _969.x[_978].y, spvFMul(_1259, _969.x[_978].x)))))))));
                                uint _1942 = _1003 + 1u;
                                acc[_1942] += fma(_1848, _969.x[_1863].w, fma(_1844, _969.x[_1863].z, fma(_1839, _969.x[_1863].y, fma(_1834, _969.x[_1863].x, fma(_1818, _969.x[_978].w, fma(_1814, _969.x[_978].z, fma(_1809, _969.x[_978].y, _1804 * _969.x[_978].x)))))));
                            }
                        }
                    }
                    _1585 += _1030;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1586 = 0u; _1586 < _470; )
            {
                partial[(_1586 * THREADS) + gl_LocalInvocationID.x] = param[_1586];
                _1586++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1587 = gl_LocalInvocationID.x; _1587 < _499; _1587 += THREADS)
            {
                uint _1433 = (((_1587 / 32u) * THREADS) + ((_1587 / 8u) % 4u)) + (4u * (_1587 % 8u));
                float _1610;
                _1610 = partial[_1433];
                for (uint _1608 = 32u; _1608 < THREADS; )
                {
                    _1610 = spvFAdd(_1610, partial[_1433 + _1608]);
                    _1608 += 32u;
                    continue;
                }
                chunk_sums[_1587] = _1610;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1593;
            _1593 = 0u;
            uint _1658;
            for (uint _1588 = 0u; _1588 < TOKENS; _1593 = _1658, _1588++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1588)
                {
                    _1658 = token[_1588];
                }
                else
                {
                    _1658 = _1593;
                }
            }
            bool _1059 = gl_LocalInvocationID.x < (8u * _728);
            bool _1066;
            if (_1059)
            {
                _1066 = _692 < p.rows;
            }
            else
            {
                _1066 = _1059;
            }
            if (_1066)
            {
                uint _1474 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_709 % 2u)) * 4u) + _1129) * 8u;
                float _1078 = spvFMul((((((spvFAdd(chunk_sums[_1474], chunk_sums[_1474 + 1u]) + chunk_sums[_1474 + 2u]) + chunk_sums[_1474 + 3u]) + chunk_sums[_1474 + 4u]) + chunk_sums[_1474 + 5u]) + chunk_sums[_1474 + 6u]) + chunk_sums[_1474 + 7u], _1579);
                float _1502 = -abs(_1078);
                float _1594;
                do
                {
                    if (_1502 < (-87.0))
                    {
                        _1594 = 0.0;
                        break;
                    }
                    float _1531 = floor(fma(_1502, 1.44269502162933349609375, 0.5));
                    float _1537 = fma(_1531, 0.00021219444170128554105758666992188, fma(_1531, -0.693359375, _1502));
                    _1594 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1537, 0.00139819993637502193450927734375), _1537, 0.008333452045917510986328125), _1537, 0.0416657961905002593994140625), _1537, 0.1666666567325592041015625), _1537, 0.5), _1537), _1537, _1537), 1.0) * as_type<float>(uint(int(_1531) + 127) << uint(23));
                    break;
                } while(false);
                float _1595;
                if (_1078 < 0.0)
                {
                    _1595 = _1078 * _1594;
                }
                else
                {
                    _1595 = _1078;
                }
                _1082.y[(((_593 * 64u) + _1593) * p.y_stride) + _692] = _1595 / (1.0 + _1594);
            }
            _1099 = _1580 - _728;
            if (_1100 && (_1099 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

